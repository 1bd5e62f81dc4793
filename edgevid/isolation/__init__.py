"""Work in child processes: native libraries abort, hang and leak, and a child contains it.

process         start a Python module as a child, and make sure that it dies with its parent
child_task      one task, one child: JSON in, JSON out, with a time limit
confined        the entry point of such a child: enters its sandbox, then runs the module
json_rpc        a child that answers many requests, JSON lines both ways
worker          a child that shares memory with its parent and answers one-byte messages
shared_memory   named arrays that two processes share
sandbox         what a child may do: files, system calls, memory
landlock        restricts access to files
seccomp         restricts system calls
"""
