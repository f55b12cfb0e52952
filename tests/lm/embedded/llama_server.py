"""llama.cpp's own HTTP server in a process of its own: `python llama_server.py WEIGHTS`, with its key in `LLAMA_KEY`.

It prints where it listens and ends when its stdin does.
"""

import os
import sys

import xllamacpp


def main() -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.n_parallel, parameters.n_ctx = 2, 4096
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 2
    parameters.verbosity = -1
    parameters.api_keys = [os.environ["LLAMA_KEY"]]
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main()
