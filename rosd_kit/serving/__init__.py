"""Inference servers as the rollout backend: what engines share, whichever server they use.

    options          recipe options of every such engine, with the sections `rollout.launch` and `rollout.check`
    protocol         what a server reports and answers, and how it can fail
    client           HTTP requests to one server; an engine adds the routes of its server
    server           starting one server process and stopping it
    watchdog         a small program that holds a server process and stops it when the run is gone
    interpreter      what the interpreter that is to run servers has
    launch           the commands that start servers for a student: interpreter, model folder, devices
    weight_transfer  weights with a label, their buckets, and files that servers load
    replica          one server of the run: made ready, given the run's weights, recovered when it fails
    pool             all replicas, and how requests are spread over them
    colocation       hands the memory of a shared GPU back and forth between trainer and server
    weight_lease     keeps weights in place while requests that need them are in flight
    factory          builds a pool from a recipe's options; an engine names its client, commands and transfer
    engine           the rollout engine over a pool
    event_loop       an asyncio loop in a thread
    logprob_check    the gap between engine and trainer log-probs, and its likely cause
    probe            when engine and trainer are compared, and on which tokens

Knows no server's routes or arguments: `rosd_kit.sglang` adds SGLang's, a plugin those of another server. Needs httpx.
"""
