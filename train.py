"""Train a model: ``python train.py model=mlp data=fashion_mnist optimizer.lr=0.1``; ``--help`` lists the choices.

The run itself reads top to bottom in zoo/train.py, so that an installed wheel has it too, as ``zoo train``.
"""

from zoo.train import main

if __name__ == "__main__":
    main()
