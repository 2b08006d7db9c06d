"""The report of a sweep: results files, tables, figures, page and TensorBoard's hparams."""
