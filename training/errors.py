"""What can go wrong while training, as one tree.

    TrainingError
    ├── ConfigError      an unknown or out-of-range setting
    ├── CorpusError      no usable source files, or prepared data that does not fit the model
    ├── TokenizerError   a tokenizer that is missing, damaged or does not match its data
    ├── CheckpointError  a checkpoint that is missing, damaged or of another architecture
    └── RegistryError    a model registry that is not installed, not reached or refuses

Every message holds the value seen, the limit, and the mend. Nothing here knows of PyTorch.
"""


class TrainingError(Exception):
    """Anything a user of ``python -m training`` can mend."""


class ConfigError(TrainingError):
    """A setting is unknown or out of its range."""


class CorpusError(TrainingError):
    """The source trees or the prepared data are unusable."""


class TokenizerError(TrainingError):
    """The tokenizer files are missing, damaged or do not match the data."""


class CheckpointError(TrainingError):
    """The checkpoint is missing, damaged or of another architecture."""


class RegistryError(TrainingError):
    """The model registry is not installed, cannot be reached or refuses."""
