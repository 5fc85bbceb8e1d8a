"""Training: loss, clips for each step, the Lightning module and the pretrain-finetune protocol."""
