"""One camera's way from frames to answers: choice of engine, the loop, the counters, the sinks."""
