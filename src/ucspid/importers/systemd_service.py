"""The service unit of a connection: its program, rights, environment and limits."""

import re

from ucspid.importers.description import Imported, SourceLine
from ucspid.importers.host import SEARCH_PATH, Host
from ucspid.importers.identity import run_as, set_group
from ucspid.importers.limits import set_limit
from ucspid.importers.unit_files import Unit, UnitValue, seconds, split_words

_IGNORED = {
    "Type", "RemainAfterExit", "KillMode", "KillSignal", "SendSIGHUP", "SendSIGKILL", "TimeoutStartSec",
    "TimeoutStopSec", "TimeoutSec", "Restart", "RestartSec", "StandardInput", "StandardOutput",
    "StandardError", "SyslogIdentifier", "SyslogFacility", "SyslogLevel", "LogLevelMax", "NotifyAccess",
    "SuccessExitStatus", "IgnoreSIGPIPE", "FileDescriptorStoreMax", "CollectMode", "Slice",
    "SyslogLevelPrefix",
}  # fmt: skip
_HANDLED = {
    "ExecStart", "User", "Group", "SupplementaryGroups", "Environment", "EnvironmentFile",
    "PassEnvironment", "UnsetEnvironment", "WorkingDirectory", "RootDirectory", "UMask", "Nice",
    "NoNewPrivileges", "RuntimeMaxSec", "IPAddressAllow", "IPAddressDeny",
}  # fmt: skip
_LIMITS = {
    "LimitAS": "as", "LimitCORE": "core", "LimitCPU": "cpu", "LimitDATA": "data", "LimitFSIZE": "fsize",
    "LimitMEMLOCK": "memlock", "LimitMSGQUEUE": "msgqueue", "LimitNICE": "nice", "LimitNOFILE": "nofile",
    "LimitNPROC": "nproc", "LimitRSS": "rss", "LimitRTPRIO": "rtprio", "LimitRTTIME": "rttime",
    "LimitSIGPENDING": "sigpending", "LimitSTACK": "stack",
}  # fmt: skip
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}
_YES = {"1", "yes", "y", "true", "t", "on"}
_NO = {"0", "no", "n", "false", "f", "off"}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\$")
_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_SPECIFIERS = {"%p", "%P", "%j", "%J"}
_CONNECTION = {"REMOTE_ADDR", "REMOTE_PORT"}
_MAX_LIFETIME = 30 * 86400


def set_service(service: Imported, unit: Unit, host: Host, prefix: str) -> None:
    """Set what a template's instance would have; prefix is the name before the @."""
    service.comments += unit.comments
    _descriptors(service, unit)
    environment = _environment(service, unit, host)
    _program(service, unit, host, environment, prefix)
    _identity(service, unit, host)
    _process(service, unit)
    for key, name in _LIMITS.items():
        if value := unit.last("Service", key):
            _limit(service, value, key, name)
    _others(service, unit)


def _descriptors(service: Imported, unit: Unit) -> None:
    value = unit.last("Service", "StandardInput")
    if value is None or value.text != "socket":
        place = value.place if value else _place(unit, service)
        service.cannot(
            place,
            "without StandardInput=socket its program has the connection as descriptor 3",
            "keep the units",
        )
    output = unit.text("Service", "StandardOutput", "inherit")
    if output not in {"inherit", "socket"}:
        place = _placed(unit, "StandardOutput", service)
        service.cannot(
            place, f"StandardOutput={output}: descriptor 1 is not the connection", "keep the units"
        )
    error = unit.text("Service", "StandardError", "inherit")
    if error in {"inherit", "socket"}:
        service.settings["stderr"] = "client"
    elif error == "null":
        service.settings["stderr"] = "null"
    elif error not in {"journal", "syslog", "kmsg"}:
        service.note(
            _placed(unit, "StandardError", service), f"StandardError={error}", "stderr: log has it in the log"
        )


def _place(unit: Unit, service: Imported) -> SourceLine:
    value = unit.last("Service", "ExecStart")
    return SourceLine(value.place.file) if value else service.place


def _placed(unit: Unit, key: str, service: Imported) -> SourceLine:
    value = unit.last("Service", key)
    return value.place if value else service.place


def _environment(service: Imported, unit: Unit, host: Host) -> dict[str, str]:
    """Set the environment and return it."""
    variables: dict[str, str] = {}
    for value in unit.all("Service", "Environment"):
        try:
            variables |= _assignments(split_words(value.text))
        except ValueError as error:
            service.note(value.place, f"Environment= has {error}", "correct it")
    for value in unit.all("Service", "EnvironmentFile"):
        path = value.text.removeprefix("-")
        try:
            variables |= _environment_file(host.lines(path))
            service.remark(f"The variables of {path} are as they were when it was imported.")
        except OSError as error:
            if not value.text.startswith("-"):
                service.cannot(value.place, f"{path} cannot be read: {error.strerror}", "create it")
    for value in unit.all("Service", "UnsetEnvironment"):
        for name in value.text.split():
            variables.pop(name.partition("=")[0], None)
    if variables:
        service.settings["env"] = variables
    if passed := [name for value in unit.all("Service", "PassEnvironment") for name in value.text.split()]:
        service.settings["inherit_env"] = passed
    return variables


def _assignments(words: list[str]) -> dict[str, str]:
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals and name}


def _environment_file(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            found[name.strip()] = value[1:-1] if quoted else value
    return found


def _program(service: Imported, unit: Unit, host: Host, environment: dict[str, str], prefix: str) -> None:
    value = unit.last("Service", "ExecStart")
    if value is None:
        service.settings["program"] = ["none"]
        service.cannot(service.place, "its service has no ExecStart=", "add one")
        return
    text = value.text
    marks = text[: len(text) - len(text.lstrip("-@:+!|"))]
    try:
        words = split_words(text[len(marks) :])
    except ValueError as error:
        words = [text]
        service.cannot(value.place, f"ExecStart= has {error}", "correct it")
    for name in sorted(set(re.findall(r"%[a-zA-Z]", " ".join(words).replace("%%", ""))) - _SPECIFIERS):
        service.cannot(value.place, f"{name} in ExecStart= is not known", "write its value")
    words = _substituted(service, value, [_specified(word, prefix) for word in words], environment, marks)
    if "+" in marks or "!" in marks:
        service.cannot(
            value.place, f"{marks} ran the program with other rights than the unit's", "set user: yourself"
        )
    if "|" in marks or ";" in words:
        service.cannot(value.place, "it is more than one command", "write a script")
    if "@" in marks and len(words) > 1:
        service.settings["argv0"] = words[1]
        words = [words[0], *words[2:]]
    service.settings["program"] = words or ["none"]
    _find(service, value, host)


def _find(service: Imported, value: UnitValue, host: Host) -> None:
    program = service.settings["program"][0]
    paths = [program] if "/" in program else [f"{folder}/{program}" for folder in SEARCH_PATH.split(":")]
    if not any(map(host.has_program, paths)):
        service.cannot(value.place, f"there is no program {program}", "install it, or remove the units")


def _specified(word: str, prefix: str) -> str:
    """Return a word with the specifiers that are the same for every connection."""
    known = {
        "%": "%",
        "p": prefix,
        "P": prefix,
        "j": prefix.rpartition("-")[2],
        "J": prefix.rpartition("-")[2],
    }
    return re.sub(r"%([%pPjJ])", lambda found: known[found[1]], word)


def _substituted(
    service: Imported, value: UnitValue, words: list[str], environment: dict[str, str], marks: str
) -> list[str]:
    """Return the words with variables of the unit in their places."""
    made: list[str] = []
    unknown: set[str] = set()

    def known(name: str) -> str:
        if name not in environment:
            unknown.add(f"${name}" if name not in _CONNECTION else f"${name}, which the connection has,")
        return environment.get(name, "")

    for word in words:
        if ":" in marks:
            made.append(word)
        elif found := _NAME.fullmatch(word):
            made += known(found[1]).split()
        else:
            made.append(_VARIABLE.sub(lambda found: known(found[1]) if found[1] else "$", word))
    for name in sorted(unknown):
        service.cannot(
            value.place, f"{name} in ExecStart= is not known", "write a script that sets it, or the value"
        )
    return made


def _identity(service: Imported, unit: Unit, host: Host) -> None:
    user, group = unit.last("Service", "User"), unit.last("Service", "Group")
    if unit.text("Service", "DynamicUser").lower() in _YES:
        service.settings["user"] = "nobody"
        service.cannot(
            _placed(unit, "DynamicUser", service), "DynamicUser= has no equivalent", "create a user for it"
        )
        return
    if user is None:
        service.settings["user"] = "root"
        service.beside["user"] = "there was no User="
    else:
        run_as(service, user.place, host, user.text)
        service.settings["user_env"] = True
    if group is not None:
        set_group(service, group.place, host, group.text)
    for value in unit.all("Service", "SupplementaryGroups"):
        service.note(
            value.place,
            f"SupplementaryGroups={value.text} came to the user's own",
            "write all of them under groups:",
        )


def _process(service: Imported, unit: Unit) -> None:
    settings = service.settings
    if value := unit.last("Service", "WorkingDirectory"):
        if value.text.lstrip("-").startswith("/"):
            settings["chdir"] = value.text.lstrip("-")
        else:
            service.note(
                value.place,
                f"WorkingDirectory={value.text} is the user's home",
                "write its path after chdir:",
            )
    if value := unit.last("Service", "RootDirectory"):
        settings["chroot"] = value.text
    if (value := unit.last("Service", "UMask")) and re.fullmatch("0*[0-7]{1,3}", value.text):
        settings["umask"] = f"0{int(value.text, 8):02o}"
    if (value := unit.last("Service", "Nice")) and re.fullmatch(r"-?[0-9]{1,2}", value.text):
        settings["nice"] = max(-20, min(int(value.text), 19))
    if unit.text("Service", "NoNewPrivileges").lower() in _YES:
        settings["no_new_privs"] = True
    if value := unit.last("Service", "RuntimeMaxSec"):
        try:
            lifetime = seconds(value.text)
        except ValueError:
            service.note(value.place, f"RuntimeMaxSec={value.text} is no time", "set max_lifetime:")
            return
        if 1 <= lifetime <= _MAX_LIFETIME:
            settings["max_lifetime"] = f"{round(lifetime)}s"


def _limit(service: Imported, value: UnitValue, key: str, name: str) -> None:
    text = value.text.partition(":")[0]
    found = re.fullmatch(r"([0-9]{1,18})\s*([KMGTPE]?)", text)
    if text == "infinity":
        set_limit(service, value.place, name, None)
    elif found and (name != "nice" or text.isdecimal()) and int(found[1]) * _FACTORS[found[2]] < 1 << 62:
        set_limit(service, value.place, name, int(found[1]) * _FACTORS[found[2]])
    else:
        service.note(value.place, f"{key}={value.text} is no number", f"set rlimits: {{{name}: …}}")
    if ":" in value.text:
        service.remark(f"{key}={value.text} had a soft and a hard limit: here both are the soft one.")


def _others(service: Imported, unit: Unit) -> None:
    for (section, key), values in unit.values.items():
        if section != "Service" or not values or key in _IGNORED | _HANDLED | _LIMITS.keys():
            continue
        if values[-1].text.lower() not in _NO and key != "DynamicUser":
            service.note(
                values[-1].place,
                f"{key}={values[-1].text} has no equivalent",
                "keep the units if it is needed",
            )
