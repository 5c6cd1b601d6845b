"""files -> records -> split by patient -> cache of bytes -> batches -> augmentation on the device."""
