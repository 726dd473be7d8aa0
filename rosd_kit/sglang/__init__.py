"""What is SGLang's alone behind `rollout: sglang`; `rosd_kit.serving` holds what all servers share.

    options          the engine's options: how weights travel, the router
    protocol         responses of a server, and what differs between SGLang versions
    client           SGLang's routes
    launch           the command that starts a server for a student
    weight_transfer  two ways to send weights besides files: tensor, distributed
    factory          builds a pool of servers from a recipe's options

Needs the extra `sglang` (httpx). SGLang itself may live in another virtual environment.
"""
