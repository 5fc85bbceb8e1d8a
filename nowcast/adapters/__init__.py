"""MEmeL in the standard libraries' models: BERT on GLUE, Swin on ImageNet (Tables 1 to 3).

Thin: models, data formats, training loops and transforms are those of transformers, datasets, timm
and Lightning. What is here says where the layers go, which settings the paper names, and how its
tables come about. Nothing heavy is imported before it is used.
"""
