"""The parts of a training: networks, losses, optimisation, history. They know no method and no format of files."""
