"""Coverage-guided fuzzing of messages and model files: `python -m tools.fuzz --seconds 600`.

targets    what is fuzzed: the decoder of messages, and the broker among hostile peers
seeds      the inputs from which it starts
worker     one target in a process of its own, under atheris (libFuzzer for Python)
__main__   runs each target for a time and writes the figures
"""
