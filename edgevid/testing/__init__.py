"""Conformance suites: what every plug-in of a kind must do, as classes of pytest tests.

There is one module for each kind of plug-in. A package that provides a plug-in subclasses the suite
in its own tests and says what to test::

    # tests/test_webhook.py of the package
    from edgevid.testing.sink import SinkSuite

    class TestWebhook(SinkSuite):
        name = "webhook"

edgevid's own tests subclass the same suites for every plug-in in the registry. The suites need
pytest, and nothing that runs on a device imports this package.
"""
