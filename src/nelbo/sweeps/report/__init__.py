"""The report of a sweep: results files, tables, figures, an HTML page, and TensorBoard images and hparams."""
