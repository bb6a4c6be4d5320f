"""All cases by name, in the order in which they are run."""

from collections.abc import Callable
from functools import partial

from bench.cases.forward import forward
from bench.cases.generator import generator
from bench.cases.interruptions import reload, restart
from bench.cases.launchers import launchers
from bench.cases.logging import logging
from bench.cases.mail import mail
from bench.cases.python import python, python_spaced
from bench.cases.refused import refused
from bench.cases.rules import rules
from bench.cases.services import profiles, services
from bench.cases.sessions import live
from bench.cases.tls import tls_bulk, tls_flood, tls_full, tls_idle, tls_mail, tls_resumed
from bench.cases.trivial import arrivals, bare, trivial
from bench.cases.watched import watched
from bench.contest import Result, Settings

Case = Callable[[Settings], Result]

CASES: dict[str, Case] = {
    "generator": generator,
    "trivial-1": partial(trivial, at_once=1),
    "trivial-20": partial(trivial, at_once=20),
    "trivial-200": partial(trivial, at_once=200),
    "bare-20": bare,
    "launchers-1": partial(launchers, at_once=1),
    "launchers-20": partial(launchers, at_once=20),
    "launchers-200": partial(launchers, at_once=200),
    "arrivals": arrivals,
    "logging": logging,
    "mail": mail,
    "python-none": partial(python, imports="none", at_once=20),
    "python-smtp": partial(python, imports="smtp", at_once=20),
    "python-smtp-1": partial(python, imports="smtp", at_once=1),
    "python-smtp-spaced": python_spaced,
    "python-heavy": partial(python, imports="heavy", at_once=20),
    "refused": refused,
    "rules": rules,
    "services": services,
    "profiles": profiles,
    "live": live,
    "watched": watched,
    "tls-full": partial(tls_full, kind="ec"),
    "tls-full-rsa": partial(tls_full, kind="rsa"),
    "tls-resumed": tls_resumed,
    "tls-bulk": tls_bulk,
    "tls-idle": tls_idle,
    "tls-flood": tls_flood,
    "tls-mail": tls_mail,
    "forward": forward,
    "reload": reload,
    "loop-kill": restart,
}
