"""Plans for tests: the least that a service needs, and what a test wants otherwise."""

from typing import Any

from ucspid.plan import Address, Log, Plan, Profile, Service


def service(name: str, **settings: Any) -> Service:
    """Return a service that runs cat on a port of the kernel's choice of 127.0.0.1."""
    usual: dict[str, Any] = {
        "listen": (Address(family="inet", host="127.0.0.1", port=0),),
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
