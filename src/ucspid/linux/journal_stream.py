"""Whether standard error is the journal: systemd says so in a variable."""

import os


def leads_to_journal(fd: int) -> bool:
    """Return whether a descriptor is a stream to the journal, systemd.exec(5): JOURNAL_STREAM."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(fd)
        return (int(device), int(inode)) == (status.st_dev, status.st_ino)
    except (OSError, ValueError):
        return False
