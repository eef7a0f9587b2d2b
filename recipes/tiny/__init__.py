"""The embedded family: how its tokenizer, its worked traces and its cold-start base are made.

A Llama of about a million parameters that reads the real tasks and can be trained on two CPU cores.
It exists so that every command works offline on really trained experts; it is no useful model.
"""
