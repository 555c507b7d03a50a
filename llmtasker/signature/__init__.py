"""A task as a record type: its class, its fields, and what a file or a pickle holds of them.

signature         Signature: what goes in, what comes out, and the rules between them
fields            InputField, OutputField
history           History: a conversation as an input; conversation: what marks it as one
made_class        classes that are made while a program runs, and yet can be pickled
signature_schema  a signature as JSON and back; what differs between two of them
type_schema       types as JSON schemas and back
"""
