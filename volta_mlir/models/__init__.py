"""Models written with :mod:`volta_mlir.nn`, one file each, whose ``state_dict`` has the names of public checkpoints."""

from volta_mlir.models.efficientnet_lite0 import EfficientNetLite0 as EfficientNetLite0
from volta_mlir.models.gpt2 import GPT2 as GPT2
from volta_mlir.models.images import preprocess as preprocess
from volta_mlir.models.lstm_lm import LSTMLM as LSTMLM
from volta_mlir.models.minilm import MiniLM as MiniLM
from volta_mlir.models.mlp import MLP as MLP
from volta_mlir.models.resnet import ResNet as ResNet
from volta_mlir.models.resnet import resnet18 as resnet18
from volta_mlir.models.resnet import resnet50 as resnet50
from volta_mlir.models.smollm2 import SmolLM2 as SmolLM2
from volta_mlir.models.vit import ViT as ViT
from volta_mlir.models.vit import vit_base as vit_base
from volta_mlir.models.vit import vit_small as vit_small
from volta_mlir.models.vit import vit_tiny as vit_tiny
