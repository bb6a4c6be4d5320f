"""Send a mail by SMTP and one by QMTP to the running daemon, and read both back by POP3."""

import poplib
import smtplib
import socket
import sys

HOST, SMTP, POP3, QMTP = "127.0.0.1", 2525, 2110, 2209
SENDER, RECIPIENT = "me@example.org", "you@localhost"


def send_by_smtp() -> None:
    """Send one mail as any mail program does."""
    with smtplib.SMTP(HOST, SMTP, timeout=10) as smtp:
        smtp.sendmail(SENDER, RECIPIENT, "Subject: by SMTP\n\nhello\n")
    print("sent by SMTP")


def send_by_qmtp() -> None:
    """Send one mail by QMTP: message, sender, recipients as netstrings, and one answer."""
    message = b"\nSubject: by QMTP\n\nhello\n"
    package = netstring(message) + netstring(SENDER.encode()) + netstring(netstring(RECIPIENT.encode()))
    with socket.create_connection((HOST, QMTP), 10) as sock:
        sock.sendall(package)
        print("sent by QMTP, answer:", sock.recv(1000).decode())


def netstring(text: bytes) -> bytes:
    """Return text with its length before it."""
    return b"%d:%s," % (len(text), text)


def read_by_pop3() -> None:
    """Read the subjects of all mails."""
    box = poplib.POP3(HOST, POP3, timeout=10)
    box.user("you")
    box.pass_("secret")
    count, size = box.stat()
    print(f"POP3: {count} mails, {size} bytes")
    for number in range(1, count + 1):
        subject = next((line for line in box.top(number, 0)[1] if line.startswith(b"Subject:")), b"")
        print(f"  {number} {subject.decode(errors='replace')}")
    box.quit()


if __name__ == "__main__":
    try:
        send_by_smtp()
        send_by_qmtp()
        read_by_pop3()
    except OSError as problem:
        sys.exit(f"{problem}: is the daemon running? (make run)")
