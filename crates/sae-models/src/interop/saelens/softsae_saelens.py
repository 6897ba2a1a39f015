"""SoftSAE for SAELens: the number of active features is estimated from each input.

Import this file, then load the folder beside it:

    import sys; sys.path.insert(0, folder)
    import softsae_saelens
    from sae_lens import SAE
    sae = SAE.load_from_disk(folder)
"""

from dataclasses import dataclass

import torch
from sae_lens import SAE, SAEConfig
from sae_lens.registry import register_sae_class
from torch import nn


@dataclass
class SoftSAEConfig(SAEConfig):
    d_hidden: int = 1
    k_min: float = 1.0
    k_max: float = 1.0
    round_down: bool = False

    @classmethod
    def architecture(cls) -> str:
        return "softsae"


class SoftSAE(SAE[SoftSAEConfig]):
    b_enc: nn.Parameter

    def initialize_weights(self) -> None:
        super().initialize_weights()
        cfg = self.cfg

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape, dtype=self.dtype, device=self.device))

        self.b_enc = zeros(cfg.d_sae)
        self.W_k = zeros(cfg.d_in, cfg.d_hidden)
        self.b_k = zeros(cfg.d_hidden)
        self.w_k_out = zeros(cfg.d_hidden)
        self.b_k_out = zeros()

    def get_activation_fn(self):
        return nn.ReLU()

    def k_hat(self, sae_in: torch.Tensor) -> torch.Tensor:
        """The number of features chosen for each input, before rounding."""
        hidden = torch.relu(sae_in @ self.W_k + self.b_k)
        share = torch.sigmoid(hidden @ self.w_k_out + self.b_k_out)
        return (share * self.cfg.k_max).clamp(self.cfg.k_min, self.cfg.d_sae - 1)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        sae_in = self.process_sae_in(x)
        z = torch.relu(self.hook_sae_acts_pre(sae_in @ self.W_enc + self.b_enc))
        k = self.k_hat(sae_in)
        k = (k.floor() if self.cfg.round_down else k.round()).long()
        values, indices = z.topk(int(k.max()), dim=-1)
        chosen = torch.arange(values.shape[-1], device=k.device) < k.unsqueeze(-1)
        features = torch.zeros_like(z).scatter(-1, indices, values * chosen)
        return self.hook_sae_acts_post(features)

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        out = self.hook_sae_recons(feature_acts @ self.W_dec + self.b_dec)
        return self.reshape_fn_out(self.run_time_activation_norm_fn_out(out), self.d_head)


register_sae_class("softsae", SoftSAE, SoftSAEConfig)
