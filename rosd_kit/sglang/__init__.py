"""SGLang servers as the rollout backend: everything behind `rollout: sglang`.

    protocol  what a server says, and what differs between its versions
    client    one server: requests, and what can go wrong with them
    guard     a small program that holds a launched server and stops it when the run is gone
    server    launching one and waiting until it is ready
    carriers  the three ways weights travel: disk, tensor, distributed
    member    a server that is given the run's weights and mended when it fails
    pool      several of them, and the requests shared out
    building  all of these from a recipe's options
    agreement whether two lists of log-probs are the same but for rounding, and what is wrong where they are not
    checks    when engine and trainer are compared, and on what

Needs the extra `sglang` (httpx). SGLang itself may live in another virtual environment.
"""
