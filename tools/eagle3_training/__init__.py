"""Steps of `train_eagle3.py`: instructions, data from the target, training, evaluation."""
