"""From the file's values to a Plan: names to numbers, defaults filled in, one key against another."""

import importlib.util
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ucspid.config import proxies, schema
from ucspid.config.access import Access, rule_names
from ucspid.config.controls import ControlSection
from ucspid.config.endpoints import Listen, ListenSection, endpoint_of
from ucspid.config.environment import MANAGER_NAMES, fixed_environment
from ucspid.config.forms import Account, Form
from ucspid.config.forward_circles import ForwardCircles
from ucspid.config.identities import NOBODY, Identities, UserIds
from ucspid.config.launchers import launcher_kind
from ucspid.config.listeners import Listeners
from ucspid.config.logs import LogSection
from ucspid.config.probe import Search
from ucspid.config.problems import Problems
from ucspid.config.profiles import Profiles
from ucspid.config.programs import ProgramSearch, Wanted, candidates
from ucspid.config.python_programs import argv_of, check_keys, executable_of, form_of, preloaded_of
from ucspid.config.settings import Place, Settings
from ucspid.config.tls import TlsResolution
from ucspid.ipc.progress import progress
from ucspid.net.endpoint import Endpoint
from ucspid.net.unix import MAX_PATH, PREFIX, SocketFile
from ucspid.plan import Log, Plan, RulesFile, Service, Web
from ucspid.policy.environ import too_long
from ucspid.profile import Profile
from ucspid.records import fields, replace
from ucspid.tls.material import NO_MATERIAL, TlsMaterial

OWNER_ONLY, GROUP_LOOKS = 0o600, 0o620
"""Modes of the control socket that does not say its own: without a group, and with one."""

"""Bytes that the path of a socket may have, unix(7)."""

_OF_ITS_OWN = {"env", "stderr", "rate_per_ip", "rules", "lookup", "proxy", "tls"}
"""Settings that the plan has in another form than the file, or that depend on others."""


def resolve(
    file: schema.File, name: str, environ: Mapping[str, str], problems: Problems, *, certificates: bool = True
) -> tuple[Plan, TlsMaterial]:
    """Return the plan and its certificates; they are worth nothing if problems were added.

    name is the file's; relative paths start from its directory. environ is the daemon's environment.
    Without certificates, none are read. Raises OSError if no process can be made to look for programs and
    into files of rules, or there is no memory.
    """
    resolver = _Resolution(file, name, environ, problems)
    loop = resolver.identities.loop(file.user, file.group)
    control = _control(file, resolver.base, problems)
    if control is not None:
        resolver.listeners.take(Endpoint(f"{PREFIX}{control}", 0), "control")
    services = [resolver.service(str(service), given) for service, given in file.services.items()]
    resolver.circles.check()
    found = resolver.programs.find()
    services = resolver.with_rule_env(services, loop)
    tls = resolver.tls.processes(loop)
    material = resolver.tls.material() if certificates else NO_MATERIAL
    plan = Plan(
        uid=loop.uid,
        gid=loop.gid,
        groups=loop.groups,
        control=control,
        **_control_access(file, resolver.identities),
        web=_web(file, resolver.identities, problems),
        nameservers=tuple(str(server) for server in file.nameservers),
        launcher=launcher_kind(file.launcher, problems),
        stop=file.stop,
        watchdog=file.watchdog,
        log=_log(file.log),
        max_connections=file.limits.max_connections,
        services=tuple(_with_executable(service, found) for service in services),
        tls=tls,
    )
    return plan, material


def _log(given: LogSection) -> Log:
    return Log(
        format=given.format,
        level=given.level,
        clients=given.clients,
        connection_started=given.connection_started,
    )


def _with_executable(service: Service, found: Mapping[tuple[str, str], str]) -> Service:
    if service.preloaded is not None and service.preloaded.own:
        return replace(service, executable=sys.executable)
    key = "program" if service.preloaded is None else "interpreter"
    return replace(service, executable=found.get((service.name, key), ""))


def _control(file: schema.File, base: Path, problems: Problems) -> str | None:
    if file.control is None:
        return None
    own = _own_path(file.control)
    if own is None:
        return None
    path = str(base / own)
    if (length := len(path.encode("utf-8", "surrogateescape"))) > MAX_PATH:
        problems.add("control", f"{length} bytes long, a socket's path may have at most {MAX_PATH}")
    elif why := _no_place_for_a_socket(path):
        problems.add("control", why)
    return path


def _own_path(given: Any) -> str | None:
    """Return the path as it stands in the file; None where it is missing, which is reported already."""
    path = given.path if isinstance(given, ControlSection) else given
    return path if isinstance(path, str) else None


def _control_access(file: schema.File, identities: Identities) -> dict[str, Any]:
    """Return the group and the mode of the control socket."""
    given = file.control
    if not isinstance(given, ControlSection):
        return {}
    gid = None if given.group is None else identities.group(given.group, "control.group")
    if given.mode is not None:
        return {"control_group": gid, "control_mode": int(given.mode)}
    return {"control_group": gid, "control_mode": OWNER_ONLY if given.group is None else GROUP_LOOKS}


def _web(file: schema.File, identities: Identities, problems: Problems) -> Web | None:
    """Return where the status page is, and as whom; what it needs must be installed."""
    if file.web is None:
        return None
    lacking = [name for name in ("aiohttp", "prometheus_client") if importlib.util.find_spec(name) is None]
    if lacking:
        how = f"in the checkout, {sys.executable} -m pip install --constraint constraints.txt '.[web]'"
        problems.add("web", f"not installed: {', '.join(lacking)}; {how}")
    who = identities.never_root(file.web.user, None, "web.user", "the web process must not run as root")
    return Web(listen=str(file.web.listen), uid=who.uid, gid=who.gid, groups=who.groups)


def _no_place_for_a_socket(path: str) -> str | None:
    """Return why a socket cannot be made; None if its folder is there, or can be made."""
    progress.at(path)
    folder = os.path.dirname(path)
    parent = os.path.dirname(folder)
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        return f"{path} exists, but is not a socket"
    if os.path.isdir(folder):
        return None
    if os.path.lexists(folder):
        return f"{folder} is not a directory"
    return (
        None
        if os.path.isdir(parent)
        else f"there is no directory {parent}: create it, or choose another path"
    )


class _Resolution:
    """What the services of one file share while they are resolved."""

    def __init__(self, file: schema.File, name: str, environ: Mapping[str, str], problems: Problems) -> None:
        self.base = Path(name).absolute().parent
        self.file = file
        self.environ = environ
        self.problems = problems
        self.identities = Identities(problems, is_root=os.geteuid() == 0)
        self.profiles = Profiles(file, self.base, self.identities, problems)
        self.settings = Settings(file, problems)
        self.listeners = Listeners()
        self.circles = ForwardCircles(problems)
        self.programs = ProgramSearch(problems)
        self.access = Access(name, self.base, self.identities, problems)
        self.tls = TlsResolution(file, self.base, self.identities, problems)

    def service(self, name: str, given: schema.ServiceSection) -> Service:
        """Return the service, without its executable, which is looked for when all services are known."""
        place = Place(name, self.problems)
        entry = self.settings.of(name, given)
        own = {str(variable): str(value) for variable, value in entry.env.items()}
        profile = self.profiles.of(entry, place)
        login = self.profiles.login(entry, place) if entry.user_env else {}
        env = fixed_environment(login, [str(variable) for variable in entry.inherit_env], own, self.environ)
        tls = self.tls.of(name, entry)
        self._check(entry, place)
        self.circles.take(name, entry, place)
        if self._findable(entry, place):
            self._look_for(entry, place, profile, env["PATH"])
        listen = self._listen(entry, place("listen"))
        over_unix = any(address.family == "unix" for address in listen["listen"])
        return Service(
            name=name,
            **listen,
            executable="",
            argv=argv_of(entry),
            preloaded=preloaded_of(entry),
            env=tuple(sorted(env.items())),
            profile=profile,
            stderr=entry.stderr or "null",
            rate_per_ip=None if entry.rate_per_ip is None else entry.rate_per_ip.bucket(entry.burst),
            rules=self.access.rules(name, entry, place, tls, over_unix=over_unix),
            lookup=self.access.lookup(entry, place),
            proxy=proxies.planned(entry.proxy),
            tls=tls,
            **_as_given(entry),
        )

    def with_rule_env(self, services: Sequence[Service], loop: UserIds) -> list[Service]:
        """Return the services with the variables that their rules set, files of rules having been read."""
        unknown = self._user_of_the_file_is_wrong()
        user = self.identities.nobody() if unknown else loop  # never read as root
        label = self.identities.label(NOBODY if unknown else self.file.user)
        found = self.access.read_files(user, label, others_may=unknown)
        done = []
        for service in services:
            rules = service.rules
            names = found.get(rules, ()) if isinstance(rules, RulesFile) else rule_names(rules or ())
            if why := too_long(service.argv, service.env, names):
                self.problems.add(self._place_of_program(service.name), why)
            done.append(replace(service, rule_env=names))
        return done

    def _place_of_program(self, service: str) -> str:
        given = next(entry for name, entry in self.file.services.items() if name == service)
        return Place(service, self.problems)(form_of(given))

    def _findable(self, entry: schema.ServiceSection, place: Place) -> bool:
        """Say whether the file names a program, and all that it depends on where that is looked for."""
        wrong = self.problems.wrong
        key, name = executable_of(entry)
        if not name or self.problems.dropped(f"{place(key)}[0]") or wrong(place("chroot")):
            return False
        if "/" in name:
            return name.startswith("/") or not wrong(place("chdir"))
        env = place("env")
        return not self.problems.wrong_as_such(env) and not wrong(f"{env}.PATH")

    def _look_for(
        self, entry: schema.ServiceSection, place: Place, profile: Profile, search_path: str
    ) -> None:
        """Have the program looked for with the service's rights; with our own, if the file's are wrong."""
        user: Account | None = self.profiles.user(entry)
        of_file = entry.user is None and self._user_of_the_file_is_wrong()
        if of_file or not place.right(("user", "group", "groups")):
            user, profile = None, profile.changed(uid=None, gid=None, groups=None)
        key, name = executable_of(entry)
        # Of forward there is nothing to look for, but its privileges are tried.
        wanted = {key: Search(candidates(name, search_path) if key != "forward" else ())}
        script = entry.python
        if script is not None and (script.startswith("/") or not self.problems.wrong(place("chdir"))):
            wanted["python"] = Search((str(script),), os.R_OK)
        for each, search in wanted.items():
            self.programs.want(
                Wanted(place.service, each, profile, search, self.identities.label(user), place)
            )

    def _user_of_the_file_is_wrong(self) -> bool:
        return any(self.problems.wrong(key) for key in ("user", "group"))

    def _check(self, entry: schema.ServiceSection, place: Place) -> None:
        if entry.burst is not None and entry.rate_per_ip is None and place.right(("rate_per_ip",)):
            self.problems.add(place("burst"), "needs rate_per_ip")
        for here, name in self.problems.items(place("inherit_env"), entry.inherit_env):
            if str(name) in MANAGER_NAMES:
                self.problems.add(here, f"{name} is between systemd and the daemon: it is never inherited")
        check_keys(entry, place, self.problems)

    def _listen(self, entry: schema.ServiceSection, path: str) -> dict[str, Any]:
        """Return where a service listens, and of those with a path who may connect there."""
        endpoints, files = [], []
        for here, listen in self.problems.items(path, entry.listen):
            endpoint = endpoint_of(listen)
            if endpoint is None:
                continue
            endpoints.append(endpoint)
            if clash := self.listeners.take(endpoint, here):
                other, where = clash
                self.problems.add(here, f"{endpoint} is not free: {where} listens on {other}")
            if endpoint.path is not None:
                if why := _no_place_for_a_socket(endpoint.path):
                    self.problems.add(here, why)
                files.append(self._socket_file(listen, endpoint.path, here))
            elif isinstance(listen, ListenSection):
                self.problems.add(here, f"{endpoint} has no path: mode, user and group are for those that do")
        return {"listen": tuple(endpoints), "socket_files": tuple(files)}

    def _socket_file(self, listen: Listen | ListenSection, path: str, here: str) -> SocketFile:
        if isinstance(listen, Listen):
            return SocketFile(path=path)
        user, group, mode = listen.user, listen.group, listen.mode
        return SocketFile(
            path=path,
            mode=SocketFile(path=path).mode if mode is None else int(mode),
            uid=None if user is None else self.identities.owner(user, f"{here}.user"),
            gid=None if group is None else self.identities.group(group, f"{here}.group"),
        )


def _as_given(entry: schema.ServiceSection) -> dict[str, Any]:
    """Return the settings that the plan has under their names in the file and as they are."""
    names = {field.name for field in fields(Service)} & set(schema.SettingsSection.__struct_fields__)
    return {name: _planned(getattr(entry, name)) for name in names - _OF_ITS_OWN}


def _planned(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_planned, value))
    return value.planned() if isinstance(value, Form) else value
