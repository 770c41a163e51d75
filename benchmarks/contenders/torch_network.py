"""SiT and its loss in PyTorch, written from the paper.

Its weights have the names and layouts of `sit_keras.conversion.weight_names`, so that those of a
model of this project can be loaded.

Shapes: M samples (two views of each image), T tokens, D width, A heads, E embedding, S side.
"""

import torch
from torch import nn
from torch.nn import functional

from sit_keras.config.network import NetworkConfig

INIT_STD = 0.02


class Attention(nn.Module):
    """Self-attention over tokens (M, T, D), plain or by `scaled_dot_product_attention`."""

    def __init__(self, width: int, num_heads: int, fused: bool):
        super().__init__()
        self.num_heads, self.fused = num_heads, fused
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        samples, tokens, width = x.shape
        shape = samples, tokens, 3, self.num_heads, width // self.num_heads
        query, key, value = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4)  # (M, A, T, D/A)
        if self.fused:
            x = functional.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
            x = scores.softmax(dim=-1) @ value
        return self.proj(x.transpose(1, 2).reshape(samples, tokens, width))


class Mlp(nn.Module):
    """Two linear layers with exact GELU between them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block with stochastic depth."""

    def __init__(self, network: NetworkConfig, drop_rate: float, fused: bool):
        super().__init__()
        width, epsilon = network.hidden_dim, network.layer_norm_epsilon
        self.norm1 = nn.LayerNorm(width, eps=epsilon)
        self.attn = Attention(width, network.num_heads, fused)
        self.norm2 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = Mlp(width, network.mlp_dim)
        self.drop_rate = drop_rate

    def forward(self, x):
        x = x + self._drop(self.attn(self.norm1(x)))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, branch):
        if not self.training or self.drop_rate == 0:
            return branch
        keep = 1 - self.drop_rate
        mask = torch.rand(branch.shape[0], 1, 1) < keep
        return branch * mask.to(branch.dtype) / keep


class PretextNetwork(nn.Module):
    """The encoder with its three heads, and the learned weights of the three losses.

    Args:
        network: NetworkConfig.
        fused: bool. Attention by PyTorch's own function.

    Call arguments:
        images: (M, 3, S, S) float32, normalised.

    Returns:
        Logits of the rotation (M, 4), embeddings (M, E), and reconstructions (M, 3, S, S), float32.
    """

    def __init__(self, network: NetworkConfig, fused: bool):
        super().__init__()
        width, patch = network.hidden_dim, network.patch_size
        rows, columns = network.grid
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.rot_token = nn.Parameter(torch.empty(1, 1, width))
        self.contrastive_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 2 + rows * columns, width))
        last = max(1, network.num_layers - 1)
        rates = [network.drop_path_rate * i / last for i in range(network.num_layers)]
        self.blocks = nn.Sequential(*(Block(network, rate, fused) for rate in rates))
        self.norm = nn.LayerNorm(width, eps=network.layer_norm_epsilon)
        self.rot_head = nn.Linear(width, 4)
        self.contrastive_head = nn.Linear(width, network.projection_dim)
        self.convTrans = nn.ConvTranspose2d(width, 3, patch, patch)
        self.recons_w, self.rot_w, self.contrastive_w = (
            nn.Parameter(torch.ones(1)) for _ in range(3)
        )
        self.grid = network.grid
        for token in (self.rot_token, self.contrastive_token, self.pos_embed):
            nn.init.normal_(token, std=INIT_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    def forward(self, images):
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)  # (M, N, D)
        prefix = torch.cat([self.rot_token, self.contrastive_token], 1).expand(len(images), -1, -1)
        x = torch.cat([prefix, patches], 1) + self.pos_embed
        x = self.norm(self.blocks(x))
        plane = x[:, 2:].transpose(1, 2).unflatten(2, self.grid)  # (M, D, rows, columns)
        outputs = self.rot_head(x[:, 0]), self.contrastive_head(x[:, 1]), self.convTrans(plane)
        return tuple(output.float() for output in outputs)

    def loss(self, outputs, clean, rotation, positives, temperature: float):
        """Returns the paper's total loss, a scalar.

        Args:
            outputs: of this network.
            clean: (M, 3, S, S) float32.
            rotation: (M,) int64, quarter turns.
            positives: (M,) int64. The number of each sample's other view.
            temperature: float.
        """
        logits, embeddings, reconstructions = outputs
        # Each scalar is 2 log alpha of the paper's equation.
        scalars = self.recons_w, self.rot_w, self.contrastive_w
        total = torch.exp(-self.recons_w / 2) * functional.l1_loss(reconstructions, clean)
        total = total + torch.exp(-self.rot_w) * functional.cross_entropy(logits, rotation)
        contrastive = nt_xent(embeddings, positives, temperature)
        total = total + torch.exp(-self.contrastive_w) * contrastive
        return (total + sum(scalars) / 2).squeeze()


def nt_xent(embeddings, positives, temperature: float):
    """Returns the mean contrastive loss (Chen et al. 2020) of embeddings (M, E)."""
    embeddings = functional.normalize(embeddings, dim=1)
    logits = embeddings @ embeddings.T / temperature
    itself = torch.eye(len(logits), dtype=torch.bool)
    return functional.cross_entropy(logits.masked_fill(itself, -1e9), positives)


def neighbours(samples: int):
    """Returns the number of each sample's other view where both stand side by side."""
    return torch.arange(samples) ^ 1


def parameter_groups(network: PretextNetwork, weight_decay: float) -> list[dict]:
    """Returns the groups of AdamW: biases, norms, tokens, positions and scalars do not decay."""
    exempt = ("rot_token", "contrastive_token", "pos_embed")
    named = list(network.named_parameters())
    decays = [p for name, p in named if p.ndim > 1 and name not in exempt]
    others = [p for name, p in named if p.ndim <= 1 or name in exempt]
    return [
        {"params": decays, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
