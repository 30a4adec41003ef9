"""Models changed after training: fewer bits, and adapters.

quantisation   formats of weights, activations and KV cache beside each other, with their bounds
accuracy       what they cost in accuracy, as published
lora           adapters: parameters, bytes, and the ops that they add to a step
many           many adapters on one deployment: which are resident, swaps, what is left for the KV cache
training       what full fine-tuning, LoRA and QLoRA take
"""
