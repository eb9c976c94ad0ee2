"""The callback in an ordinary Lightning module: a next-byte model that stops at its compute-optimal point."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from scalestop import BudgetLR, ComputeOptimalStopping

TEXT = torch.frombuffer(bytearray(Path(torch.__file__).read_bytes()), dtype=torch.uint8).long()  # any text will do


class NextByte(pl.LightningModule):
    def __init__(self, width=36):
        super().__init__()
        self.net = nn.Sequential(nn.Embedding(256, width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 256))

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.net(inputs).flatten(0, 1), targets.flatten())
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [{"scheduler": BudgetLR(optimizer), "interval": "step"}]


windows = TEXT[: len(TEXT) // 65 * 65].view(-1, 65)
data = torch.utils.data.TensorDataset(windows[:, :-1], windows[:, 1:])
stop = ComputeOptimalStopping(budget="6e10 FLOPs", law="stdlib-bytes")
trainer = pl.Trainer(max_epochs=-1, accelerator="cpu", callbacks=[stop], enable_progress_bar=False)
trainer.fit(NextByte(), torch.utils.data.DataLoader(data, batch_size=8, shuffle=True))
print(stop.stop_reason, "after", stop.usage.optimizer_steps, "steps, planned", stop.plan.stop_step)
