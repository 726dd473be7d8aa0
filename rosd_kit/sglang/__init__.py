"""SGLang servers as the rollout backend: everything behind `rollout: sglang`.

    options          the recipe sections `rollout.launch` and `rollout.check`
    protocol         responses of a server, and what differs between SGLang versions
    client           HTTP requests to one server, and how they can fail
    launch           commands that start servers for a student
    server           starting one server process and stopping it
    watchdog         a small program that holds a server process and stops it when the run is gone
    weight_transfer  three ways to send weights to a server: disk, tensor, distributed
    replica          one server of the run: made ready, given the run's weights, recovered when it fails
    pool             all replicas, and how requests are spread over them
    colocation       hands the memory of a shared GPU back and forth between trainer and server
    weight_lease     keeps weights in place while requests that need them are in flight
    factory          builds a pool from a recipe's options
    event_loop       an asyncio loop in a thread
    logprob_check    the gap between engine and trainer log-probs, and its likely cause
    probe            when engine and trainer are compared, and on which tokens

Needs the extra `sglang` (httpx). SGLang itself may live in another virtual environment.
"""
