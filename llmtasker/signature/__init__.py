"""A task as a record type: its class, its fields, and its form in a file or a pickle.

signature         Signature: inputs, outputs, and the rules between them
fields            InputField, OutputField
history           History: a conversation as an input; conversation: its base class
made_class        classes that are made while a program runs and can still be pickled
signature_schema  a signature as JSON and back; the differences between two signatures
type_schema       types as JSON schemas and back
"""
