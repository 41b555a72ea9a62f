"""LiteRT in MLServer, by a model class as its documentation describes them. Its own process imports this."""

from ai_edge_litert.interpreter import Interpreter
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class LiteRT(MLModel):
    """One interpreter with one thread, as ``bench/api.py`` uses it bare."""

    async def load(self) -> bool:
        """Load the model file."""
        self._interpreter = Interpreter(self.settings.parameters.uri, num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,) = (one["index"] for one in self._interpreter.get_input_details())
        (self._output,) = (one["index"] for one in self._interpreter.get_output_details())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run one window."""
        self._interpreter.set_tensor(self._input, NumpyCodec.decode_input(payload.inputs[0]))
        self._interpreter.invoke()
        found = self._interpreter.get_tensor(self._output)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", found)])
