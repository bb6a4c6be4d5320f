import resource

from ucspid.linux.fd_limit import raise_limit

SOFT = 100


def test_the_hard_limit_is_taken_and_the_earlier_soft_one_returned() -> None:
    before = _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, hard))
    try:
        assert raise_limit() == SOFT
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
