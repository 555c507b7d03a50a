"""`python -m llmtasker`: the command line."""

from llmtasker.cli.app import main

if __name__ == "__main__":
    main()
