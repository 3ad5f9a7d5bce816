"""`staunch top` on a terminal: the table, its keys, and the terminal as it was when it ends."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from support import parts
from support.gateway import BINARY, staunch
from test_life import local
from test_operator import Stream


class Terminal:
    """A program on a terminal of 160 × 30, and what it wrote there."""

    def __init__(self, *words: str):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            # Who runs the tests in the background has them ignore Ctrl-C.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            # The size is set before the program looks.
            time.sleep(0.2)
            os.execv(words[0], words)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 160, 0, 0))
        self.written = ""

    def read(self, seconds=0.2):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and select.select([self.fd], [], [], left)[0]:
            try:
                self.written += os.read(self.fd, 1 << 16).decode(errors="replace")
            except OSError:
                return

    def screen(self) -> str:
        """What stands on the screen: cells that stay the same are written once."""
        rows, row, column = [[" "] * 160 for _ in range(30)], 0, 0
        for escape, letter, plain in re.findall(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", self.written, re.S):
            if letter == "H":
                numbers = [int(number) for number in escape.split(";") if number] or [1, 1]
                row, column = numbers[0] - 1, numbers[-1] - 1
            elif letter == "J":
                rows = [[" "] * 160 for _ in range(30)]
            elif plain == "\r":
                column = 0
            elif plain == "\n":
                row = min(row + 1, 29)
            elif plain and plain >= " " and row < 30 and column < 160:
                rows[row][column] = plain
                column += 1
        return "\n".join("".join(row).rstrip() for row in rows)

    def see(self, *wanted: str):
        """Waits for texts on the screen."""

        def there():
            self.read(0.1)
            return all(one in self.screen() for one in wanted)

        try:
            parts.until(there)
        except AssertionError:
            raise AssertionError(f"{wanted} in\n{self.screen()}") from None

    def type(self, keys: str):
        os.write(self.fd, keys.encode())

    def end(self) -> int:
        self.read(0.5)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_session_is_chosen_looked_at_and_ended_with_a_reason(world, start):
    gateway = start(world.config(local(world, "topped")))
    stream = Stream(world, gateway, world.issuer.token())
    top = Terminal(BINARY, "top", "--admin", f"127.0.0.1:{gateway.admin}")
    top.see("1 live, 1 match", "ann.agents", "app", "TLSv1.3", "q quit")
    top.type("\r")
    top.see("Session:", "corp", "client verified")
    top.type("\r/nobody")
    top.see("filter (Enter to keep, Esc to undo): nobody", "0 match")
    top.type("\x1b")
    top.see("1 match")
    top.type("e\r")
    top.see("an end has a reason")
    top.type("looked wrong\r")
    top.see("was ended")
    parts.until(lambda: stream.ended)
    line = gateway.line("order", order="end")
    assert line["reason"] == "looked wrong" and line["operator"] == "loopback"
    top.type("q")
    top.read(1)
    assert "\x1b[?1049l" in top.written, "the screen is given back"
    assert top.end() == 0


def test_where_output_is_no_terminal_it_prints_tables(world, start):
    gateway = start(world.config(local(world, "top-plain")))
    once = staunch("top", "--once", "--admin", f"127.0.0.1:{gateway.admin}")
    assert once.returncode == 0 and b"0 live" in once.stdout and b"\x1b" not in once.stdout
    unknown = staunch("top", "--once", "--sort", "beauty", "--admin", f"127.0.0.1:{gateway.admin}")
    assert unknown.returncode == 1 and b"sort is one of age" in unknown.stderr


def test_a_terminal_that_can_only_write_gets_tables(world, start):
    gateway = start(world.config(local(world, "top-dumb")))
    top = Terminal("/usr/bin/env", "TERM=dumb", BINARY, "top", "--admin", f"127.0.0.1:{gateway.admin}")
    top.see("0 live", "UPSTREAM LEG")
    assert "\x1b" not in top.written
    top.type("\x03")
    top.end()


def test_a_gateway_that_is_not_there_is_told_before_the_screen_changes():
    top = Terminal(BINARY, "top", "--admin", "127.0.0.1:1")
    top.see("does not answer")
    assert top.end() == 1 and "1049" not in top.written
