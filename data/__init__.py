"""From a corpus release to arrays: parsing, labels, text, audio features, the corpus file and context batches."""
