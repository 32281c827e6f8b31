"""What a server wrote, and what in it makes a test fail."""

import re
from pathlib import Path

ALERT = re.compile(r"\[(alert|emerg)\]|exited on signal")
SANITIZER = re.compile(
    r"(ERROR|WARNING): \w*Sanitizer(?! failed to allocate)|runtime error:|SUMMARY: \w*Sanitizer"
    r"|Sanitizer: (CHECK failed|nested bug)|Sanitizer has encountered a fatal error"
    r"|Fatal Python error|Debug memory block"
)


class Log:
    """A log file that is read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.expected: list[re.Pattern[str]] = []

    def text(self) -> str:
        try:
            return self.path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def find(self, pattern: str) -> list[str]:
        """The lines that match."""
        return [line for line in self.text().splitlines() if re.search(pattern, line)]

    def expect(self, pattern: str) -> None:
        """Announces an alert: it has to come, and it is not a failure."""
        self.expected.append(re.compile(pattern))

    def problems(self, *others: "Log") -> list[str]:
        """What fails a test, in this log and in others that belong to it."""
        found = []
        missing = set(self.expected)
        text = "".join(log.text() for log in (self, *others))

        for line in text.splitlines():
            if SANITIZER.search(line):
                found.append(line)

                continue

            announced = [pattern for pattern in self.expected if pattern.search(line)]
            missing.difference_update(announced)

            if ALERT.search(line) and not announced:
                found.append(line)

        found += [f"an announced alert did not come: {pattern.pattern}" for pattern in missing]

        return found
