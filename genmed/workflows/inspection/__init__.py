"""What the `genmed data` commands do: name the datasets, check one, show its images, mind the image cache."""
