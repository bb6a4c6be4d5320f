# Made by make docs from the command's parser.
function __ucspid_is
    set -l words (commandline -opc)
    set -l last (math (count $argv) + 1)
    test (count $words) -ge $last; and test "$words[2..$last]" = "$argv"
end
function __ucspid_at
    test (count (commandline -opc)) -eq $argv[1]
end
complete -c ucspid -f
complete -c ucspid -n '__ucspid_at 1' -a addcr
complete -c ucspid -n '__ucspid_at 1' -a argv0
complete -c ucspid -n '__ucspid_at 1' -a date@
complete -c ucspid -n '__ucspid_at 1' -a delcr
complete -c ucspid -n '__ucspid_at 1' -a finger@
complete -c ucspid -n '__ucspid_at 1' -a fixcrio
complete -c ucspid -n '__ucspid_at 1' -a http@
complete -c ucspid -n '__ucspid_at 1' -a https@
complete -c ucspid -n '__ucspid_at 1' -a mconnect
complete -c ucspid -n '__ucspid_at 1' -a mconnect-io
complete -c ucspid -n '__ucspid_at 1' -a rblsmtpd
complete -c ucspid -n '__ucspid_at 1' -a recordio
complete -c ucspid -n '__ucspid_at 1' -a tcpcat
complete -c ucspid -n '__ucspid_at 1' -a tcpclient
complete -c ucspid -n '__ucspid_at 1' -a tcprules
complete -c ucspid -n '__ucspid_at 1' -a tcprulescheck
complete -c ucspid -n '__ucspid_at 1' -a tcpserver
complete -c ucspid -n '__ucspid_at 1' -a tlsclient
complete -c ucspid -n '__ucspid_at 1' -a who@
complete -c ucspid -n '__ucspid_is addcr' -F
complete -c ucspid -n '__ucspid_is argv0' -F
complete -c ucspid -n '__ucspid_is date@' -F
complete -c ucspid -n '__ucspid_is delcr' -F
complete -c ucspid -n '__ucspid_is finger@' -F
complete -c ucspid -n '__ucspid_is fixcrio' -F
complete -c ucspid -n '__ucspid_is http@' -F
complete -c ucspid -n '__ucspid_is https@' -F
complete -c ucspid -n '__ucspid_is mconnect' -F
complete -c ucspid -n '__ucspid_is mconnect-io' -F
complete -c ucspid -n '__ucspid_is rblsmtpd' -F
complete -c ucspid -n '__ucspid_is recordio' -F
complete -c ucspid -n '__ucspid_is tcpcat' -F
complete -c ucspid -n '__ucspid_is tcpclient' -F
complete -c ucspid -n '__ucspid_is tcprules' -F
complete -c ucspid -n '__ucspid_is tcprulescheck' -F
complete -c ucspid -n '__ucspid_is tcpserver' -F
complete -c ucspid -n '__ucspid_is tlsclient' -F
complete -c ucspid -n '__ucspid_is who@' -F
complete -c ucspid -n '__ucspid_at 1' -a run -d 'run the daemon in the foreground'
complete -c ucspid -n '__ucspid_is run' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is run' -l ready-fd -x -d 'write a newline to descriptor N and close it when all listeners listen'
complete -c ucspid -n '__ucspid_at 1' -a check -d 'check a configuration file: exit 0 if it is right, 100 if not'
complete -c ucspid -n '__ucspid_is check' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_at 1' -a explain -d 'show what a service\'s rules say to a client'
complete -c ucspid -n '__ucspid_is explain' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is explain' -d 'name of the service'
complete -c ucspid -n '__ucspid_is explain' -d 'the client\'s address, or unix:uid=NUMBER'
complete -c ucspid -n '__ucspid_is explain' -l host -x -d 'the client\'s name, as if it had been looked up'
complete -c ucspid -n '__ucspid_is explain' -l info -x -d 'the ident server\'s answer, as if it had been asked'
complete -c ucspid -n '__ucspid_is explain' -l sni -x -d 'the name that the client asks for in TLS'
complete -c ucspid -n '__ucspid_is explain' -l san -x -d 'a name in the client\'s certificate'
complete -c ucspid -n '__ucspid_is explain' -l sha256 -x -d 'the fingerprint of the client\'s certificate'
complete -c ucspid -n '__ucspid_is explain' -l proxy -x -d 'the balancer that the client comes by'
complete -c ucspid -n '__ucspid_is explain' -l tcprulescheck -d 'print what tcprulescheck would: for a tcprules file'
complete -c ucspid -n '__ucspid_at 1' -a rules -d 'compile or check a file of access rules'
complete -c ucspid -n '__ucspid_is rules; and __ucspid_at 2' -a compile -d 'compile a text file to a cdb, as tcprules does'
complete -c ucspid -n '__ucspid_is rules compile' -F -d 'file of rules'
complete -c ucspid -n '__ucspid_is rules compile' -F -d 'file to write; replaced atomically'
complete -c ucspid -n '__ucspid_is rules; and __ucspid_at 2' -a check -d 'check a file of rules: exit 0 if it is right, 100 if not'
complete -c ucspid -n '__ucspid_is rules check' -F -d 'a text, or a cdb if its name ends in .cdb'
complete -c ucspid -n '__ucspid_at 1' -a import -d 'write a configuration file from what another server has: exit 2 if something has no equivalent'
complete -c ucspid -n '__ucspid_is import' -F -d 'a file or a directory of the other server'
complete -c ucspid -n '__ucspid_is import' -l root -r -F -d 'read the files of another host: all paths are below DIR'
complete -c ucspid -n '__ucspid_at 1' -a schema -d 'print the JSON Schema of the configuration file'
complete -c ucspid -n '__ucspid_at 1' -a version -d 'print the version'
complete -c ucspid -n '__ucspid_at 1' -a status -d 'show the running daemon\'s processes, services and counts'
complete -c ucspid -n '__ucspid_is status' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is status' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is status' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is status' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_is status' -l verify -d 'have the daemon compare its counts with what runs: exit 1 if they differ'
complete -c ucspid -n '__ucspid_is status' -l service -x -d 'only this service; may be given again'
complete -c ucspid -n '__ucspid_is status' -l troubled -d 'only services that are in trouble: exit 1 if there are any'
complete -c ucspid -n '__ucspid_at 1' -a sessions -d 'list the running daemon\'s sessions'
complete -c ucspid -n '__ucspid_is sessions' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is sessions' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is sessions' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is sessions' -l service -x -d 'only sessions of this service'
complete -c ucspid -n '__ucspid_is sessions' -l ip -x -d 'only those of clients in this network, or unix:uid=NUMBER'
complete -c ucspid -n '__ucspid_is sessions' -l older -x -d 'only those that have lasted so long, such as 90s or 2h'
complete -c ucspid -n '__ucspid_is sessions' -l sort -x -a 'age service client cpu memory bytes' -d 'the order: the largest first, but for names (default: age)'
complete -c ucspid -n '__ucspid_is sessions' -l bytes -d 'show what came from clients and went to them'
complete -c ucspid -n '__ucspid_is sessions' -l json -d 'print all that is known, as JSON'
complete -c ucspid -n '__ucspid_at 1' -a kill -d 'end sessions: exit 1 if there are none such'
complete -c ucspid -n '__ucspid_is kill' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is kill' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is kill' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is kill' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_is kill' -l service -x -d 'only sessions of this service'
complete -c ucspid -n '__ucspid_is kill' -l ip -x -d 'only those of clients in this network, or unix:uid=NUMBER'
complete -c ucspid -n '__ucspid_is kill' -l older -x -d 'only those that have lasted so long, such as 90s or 2h'
complete -c ucspid -n '__ucspid_is kill' -l now -d 'send SIGKILL at once, not after kill_timeout'
complete -c ucspid -n '__ucspid_is kill' -d 'a connection, as `ucspid sessions` shows it'
complete -c ucspid -n '__ucspid_at 1' -a drain -d 'have a service accept nothing more; its sessions go on'
complete -c ucspid -n '__ucspid_is drain' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is drain' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is drain' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is drain' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_is drain' -d 'name of the service'
complete -c ucspid -n '__ucspid_is drain' -l wait -d 'return when its last session has ended'
complete -c ucspid -n '__ucspid_at 1' -a resume -d 'have a drained service accept again'
complete -c ucspid -n '__ucspid_is resume' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is resume' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is resume' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is resume' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_is resume' -d 'name of the service'
complete -c ucspid -n '__ucspid_at 1' -a limit -d 'set a limit of a service, until the next reload'
complete -c ucspid -n '__ucspid_is limit' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is limit' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is limit' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is limit' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_is limit' -d 'name of the service'
complete -c ucspid -n '__ucspid_is limit' -d 'how many sessions it may have'
complete -c ucspid -n '__ucspid_at 1' -a tail -d 'show events as they come, until interrupted'
complete -c ucspid -n '__ucspid_is tail' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is tail' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is tail' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is tail' -l service -x -d 'only events of this service'
complete -c ucspid -n '__ucspid_is tail' -l ip -x -d 'only those of clients in this network, or unix:uid=NUMBER'
complete -c ucspid -n '__ucspid_is tail' -l event -x -d 'only events of this name; may be given again'
complete -c ucspid -n '__ucspid_is tail' -l level -x -a 'debug info warning error' -d 'the lowest (default: info)'
complete -c ucspid -n '__ucspid_is tail' -l json -d 'print JSON lines, as the log may have them'
complete -c ucspid -n '__ucspid_at 1' -a top -d 'show live what the daemon does; keys sort, drain, kill, deny'
complete -c ucspid -n '__ucspid_is top' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is top' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is top' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is top' -l interval -x -d 'between two looks (default: 2)'
complete -c ucspid -n '__ucspid_at 1' -a deny -d 'refuse the clients of a network for a time'
complete -c ucspid -n '__ucspid_is deny' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is deny' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is deny' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is deny' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_is deny' -d 'an address, a network such as 192.0.2.0/24, or unix:uid=NUMBER'
complete -c ucspid -n '__ucspid_is deny' -l service -x -d 'by this service only'
complete -c ucspid -n '__ucspid_is deny' -l for -x -d 'such as 10m (default: 1h)'
complete -c ucspid -n '__ucspid_at 1' -a undeny -d 'refuse them no more: exit 1 if they were not denied'
complete -c ucspid -n '__ucspid_is undeny' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is undeny' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is undeny' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is undeny' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_is undeny' -d 'an address, a network such as 192.0.2.0/24, or unix:uid=NUMBER'
complete -c ucspid -n '__ucspid_is undeny' -l service -x -d 'by this service only'
complete -c ucspid -n '__ucspid_at 1' -a denied -d 'list the networks that are denied, and until when'
complete -c ucspid -n '__ucspid_is denied' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is denied' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is denied' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is denied' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_at 1' -a log-level -d 'log from another level on, until the next reload'
complete -c ucspid -n '__ucspid_is log-level' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is log-level' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is log-level' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is log-level' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_is log-level' -a 'debug info warning error' -d 'the lowest to log'
complete -c ucspid -n '__ucspid_at 1' -a plan -d 'show what a reload would change'
complete -c ucspid -n '__ucspid_is plan' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is plan' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is plan' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is plan' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_at 1' -a reload -d 'make the running daemon read its configuration file again'
complete -c ucspid -n '__ucspid_is reload' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is reload' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is reload' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is reload' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_at 1' -a upgrade -d 'make the running daemon go on as the version now installed'
complete -c ucspid -n '__ucspid_is upgrade' -s c -r -F -d 'configuration file (default: /etc/ucspid/ucspid.yaml)'
complete -c ucspid -n '__ucspid_is upgrade' -l control -r -F -d 'control socket of the daemon (default: what FILE says)'
complete -c ucspid -n '__ucspid_is upgrade' -l pid -x -d 'the daemon\'s master, wherever its control socket is'
complete -c ucspid -n '__ucspid_is upgrade' -l json -d 'print the daemon\'s answer as it is, as JSON'
complete -c ucspid -n '__ucspid_at 1' -a install -d 'show what this host needs, or make it'
complete -c ucspid -n '__ucspid_is install' -l write -d 'do it; without, only show it'
complete -c ucspid -n '__ucspid_is install' -l root -r -F -d 'the host whose files are below DIR (default: this one)'
complete -c ucspid -n '__ucspid_at 1' -a uninstall -d 'show what install has made, or remove it'
complete -c ucspid -n '__ucspid_is uninstall' -l write -d 'do it; without, only show it'
complete -c ucspid -n '__ucspid_is uninstall' -l root -r -F -d 'the host whose files are below DIR (default: this one)'
complete -c ucspid -n '__ucspid_at 1' -a links -d 'make the tools available under their own names'
complete -c ucspid -n '__ucspid_is links' -F -d 'folder of the links, such as /usr/local/bin'
complete -c ucspid -n '__ucspid_is links' -l remove -d 'remove the links that were made there'
