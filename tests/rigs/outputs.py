"""An output of a pipeline that keeps what it gets."""


class Kept(list):
    """The JSON form of every result; the results themselves are in ``results``."""

    needs_frame = False

    def __init__(self):
        super().__init__()
        self.results = []

    def put(self, result, *, live):
        self.results.append(result)
        self.append(result.to_json())

    def has_room(self):
        return True
