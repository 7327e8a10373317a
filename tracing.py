"""How TensorFlow traces a network's steps: once, for batches of any size.

By itself it traces the first size, then those that vary, then the odd last batch: seconds each time. Other backends
are left as they are.
"""

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow


def trace_once(network):
    """Has the training step of a compiled network traced once."""
    if keras.backend.backend() != "tensorflow":
        return
    wanted = tensorflow.TensorSpec(network.output_shape, "float32")
    step = _traced(lambda batch, targets: network.train_step((batch, targets)), network, wanted)
    # What `train_on_batch` calls, with an iterator over one (inputs, targets, no weights).
    network.train_function = lambda data: step(*next(data)[:2])


def predict_batch(network, batch):
    """`network.predict_on_batch(batch)`, traced once."""
    if keras.backend.backend() == "tensorflow" and network.predict_function is None:
        answer = _traced(lambda batch: network(batch, training=False), network)
        network.predict_function = lambda data: answer(data[0][0])
    return network.predict_on_batch(batch)


def _traced(function, network, *others):
    """A function of the network's inputs, and of what else it is given the specs of."""
    spec = tensorflow.TensorSpec
    inputs = keras.tree.map_structure(lambda tensor: spec(tensor.shape, tensor.dtype), network.input)
    return tensorflow.function(function, input_signature=[inputs, *others], autograph=False)
