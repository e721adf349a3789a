"""A preparation that is interrupted at a place that a test chooses."""


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
