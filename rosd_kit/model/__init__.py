"""The student model: loading, chat templates, LoRA, packed and prefix-shared forward passes, export."""
