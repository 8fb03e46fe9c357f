"""Data sets read from local files in their published forms; nothing is downloaded.

    MNIST, FashionMNIST         idx files, plain or gzipped
    CIFAR10, CIFAR100           batches, pickled for Python or binary
    IMDB                        a folder of reviews, a file each
    CSVDataset, TableDataset    tables, by pandas or polars
"""

from .cifar import CIFAR10, CIFAR100
from .imdb import IMDB
from .mnist import MNIST, FashionMNIST
from .tables import CSVDataset, TableDataset

__all__ = ["CIFAR10", "CIFAR100", "CSVDataset", "FashionMNIST", "IMDB", "MNIST", "TableDataset"]
