"""A sink that posts every result as JSON to a URL.

edgevid run motion.edgevid video.mp4 --sink webhook:url=http://127.0.0.1:8000/
"""

import json
import time
from dataclasses import dataclass
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from edgevid.results import Result
from edgevid.settings import option, positive
from edgevid.sinks import Sink


@dataclass(frozen=True)
class WebhookOptions:
    """Options of the sink ``webhook``.

    Attributes:
        url: Where to post; http or https.
        timeout_s: How long one attempt may take.
        attempts: How often a result is tried before it counts as failed.
        retry_s: Delay before the second attempt; doubles each time.
    """

    url: str
    timeout_s: float = option(5.0, read=positive)
    attempts: int = 3
    retry_s: float = option(0.5, read=positive)


class Webhook(Sink):
    """Posts results one by one, and retries while the server is away."""

    Options = WebhookOptions

    def write(self, result: Result) -> None:
        """Post one result; raises the last error if no attempt succeeds."""
        body = json.dumps(result.to_json()).encode()
        for attempt in range(self.options.attempts):
            if attempt:
                time.sleep(self.options.retry_s * 2 ** (attempt - 1))
            try:
                return self._post(body)
            except HTTPError as error:
                last: OSError = error
                if error.code < 500:  # the server understood, and does not want it
                    break
            except URLError as error:
                last = error
        raise last

    def _post(self, body: bytes) -> None:
        request = Request(self.options.url, body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=self.options.timeout_s) as reply:
            reply.read()
