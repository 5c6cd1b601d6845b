"""What a training is made of: data, models, metrics. Each new dataset, model or metric is one file and one entry."""
