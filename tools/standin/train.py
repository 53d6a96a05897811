"""Training: Muon and AdamW over the corpus, loss on the replies only, every source of chance seeded."""

import random
import time
from dataclasses import dataclass

import torch
from bpe import Vocabulary
from chat import Example
from model import Llama, Shape
from muon import Muon
from torch.nn import functional as F  # noqa: N812 - the name every reader of torch code knows


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train. `cooling` is the part of the steps over which the rates fall to zero."""

    seed: int = 20261120
    steps: int = 240
    batch: int = 4
    matrix_rate: float = 0.03
    other_rate: float = 3e-3
    warmup: int = 20
    cooling: float = 0.8
    weight_decay: float = 0.1
    clip: float = 1.0
    threads: int = 1


def batches(examples: list[Example], recipe: Recipe) -> list[list[Example]]:
    """One batch per step: passes over the corpus in a seeded order."""
    rng = random.Random(recipe.seed)
    order: list[Example] = []
    while len(order) < recipe.steps * recipe.batch:
        order += rng.sample(examples, len(examples))
    return [order[i * recipe.batch : (i + 1) * recipe.batch] for i in range(recipe.steps)]


def tensors(batch: list[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets, both (batch, length); a target of -100 is not learnt from."""
    length = max(len(example.ids) for example in batch) - 1
    inputs = torch.full((len(batch), length), pad)
    targets = torch.full((len(batch), length), -100)
    for row, example in enumerate(batch):
        ids = torch.tensor(example.ids)
        inputs[row, : len(ids) - 1] = ids[:-1]
        targets[row, example.prompt - 1 : len(ids) - 1] = ids[example.prompt :]
    return inputs, targets


def optimizers(net: Llama, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms."""
    inner = [p for name, p in net.named_parameters() if name.startswith("blk.") and p.ndim == 2]
    outer = [p for name, p in net.named_parameters() if not (name.startswith("blk.") and p.ndim == 2)]
    return [
        Muon(inner, lr=recipe.matrix_rate, momentum=0.95, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(outer, lr=recipe.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(examples: list[Example], vocabulary: Vocabulary, shape: Shape, recipe: Recipe) -> Llama:
    """Train a network from nothing; prints the loss (nats per token) as it goes."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    net = Llama(shape)
    pad = vocabulary.special("<|endoftext|>")
    movers = optimizers(net, recipe)
    rates = [mover.param_groups[0]["lr"] for mover in movers]
    losses: list[float] = []
    started = time.monotonic()
    for step, batch in enumerate(batches(examples, recipe)):
        share = min(1.0, (step + 1) / recipe.warmup, (recipe.steps - step) / (recipe.steps * recipe.cooling))
        inputs, targets = tensors(batch, pad)
        loss = F.cross_entropy(net.logits(net(inputs)).flatten(0, 1), targets.flatten())
        net.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
        for mover, rate in zip(movers, rates, strict=True):
            mover.param_groups[0]["lr"] = rate * share
            mover.step()
        losses.append(loss.item())
        if (step + 1) % 20 == 0:
            print(f"step {step + 1}: loss {sum(losses[-20:]) / 20:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return net
