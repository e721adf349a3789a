"""A preparation that is interrupted at a place that a test chooses, and what it did until then."""


class Interrupted(BaseException):
    """As KeyboardInterrupt is one."""


class Stopping:
    """A Progress that interrupts when so many batches have been taken."""

    def __init__(self, batches):
        self.left = batches

    def start(self, source, total_bytes):
        pass

    def advance(self, read_bytes, documents):
        self.left -= 1
        if self.left < 0:
            raise Interrupted

    def finish(self, source, skipped):
        pass


def count_batches(monkeypatch, work):
    """The batches, as they come, that a kind of work (a class) is given in this process."""
    batches, original = [], work.__call__

    def counting(self, batch):
        batches.append(batch)
        return original(self, batch)

    monkeypatch.setattr(work, "__call__", counting)
    return batches
