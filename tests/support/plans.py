"""Plans for tests: the least that a service needs, and what a test wants otherwise."""

from typing import Any

from hypothesis import strategies as st

from ucspid.net.endpoint import Endpoint
from ucspid.plan import Log, Plan, Service
from ucspid.profile import Profile


def service(name: str, **settings: Any) -> Service:
    """Return a service that runs cat on a port of the kernel's choice of 127.0.0.1."""
    usual: dict[str, Any] = {
        "listen": (Endpoint("127.0.0.1", 0),),
        "executable": "/bin/cat",
        "argv": ("cat",),
        "env": (),
        "profile": Profile(),
    }
    return Service(name=name, **(usual | settings))


def plan(*services: Service, **settings: Any) -> Plan:
    """Return a plan of these services."""
    usual: dict[str, Any] = {
        "uid": None,
        "gid": None,
        "groups": None,
        "control": None,
        "nameservers": (),
        "log": Log(format="json", level="info"),
        "max_connections": 1000,
    }
    return Plan(**(usual | settings), services=services)


TEXT = st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))
NUMBERS = st.lists(st.integers(0, 2**32 - 1)).map(tuple)
LIMITS = st.lists(st.tuples(TEXT, st.none() | st.integers(0, 2**64 - 2))).map(tuple)
_number = st.none() | st.integers(0, 2**32 - 2)
PROFILES = st.builds(
    Profile,
    uid=_number,
    gid=_number,
    groups=st.none() | NUMBERS,
    umask=_number,
    cwd=st.none() | TEXT,
    root=st.none() | TEXT,
    nice=st.none() | st.integers(1 - 2**31, 2**31 - 1),
    rlimits=LIMITS,
    no_new_privs=st.booleans(),
)
SERVICES = st.deferred(lambda: st.builds(type(service("a")), profile=PROFILES))
"""An object is made first: what is to be given is known from then on."""
