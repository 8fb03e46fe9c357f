"""A graph convolution network, as in pygcn: a sparse normalised adjacency matrix times a dense layer."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.modules.module import Module
from torch.nn.parameter import Parameter


class GraphConvolution(Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(torch.FloatTensor(in_features, out_features))
        if bias:
            self.bias = Parameter(torch.FloatTensor(out_features))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        if self.bias is not None:
            self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        output = torch.spmm(adj, support)
        return output + self.bias if self.bias is not None else output

    def __repr__(self):
        return self.__class__.__name__ + " (" + str(self.in_features) + " -> " + str(self.out_features) + ")"


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)


def communities(nodes, classes):
    """A random graph whose edges mostly join equal labels: features, sparse normalised adjacency, labels."""
    labels = torch.arange(nodes) % classes
    likely = torch.where(labels[:, None] == labels[None, :], 0.3, 0.02)
    adj = (torch.rand(nodes, nodes) < likely).float()
    adj = torch.max(adj, adj.t())
    adj.fill_diagonal_(1.0)
    r_inv = adj.sum(1).pow(-1).flatten()
    r_inv[torch.isinf(r_inv)] = 0.0
    adj = torch.diag(r_inv).mm(adj)
    indices = adj.nonzero().t()
    sparse = torch.sparse_coo_tensor(indices, adj[indices[0], indices[1]], torch.Size([nodes, nodes]))
    features = torch.randn(nodes, 16) + 0.5 * F.one_hot(labels, 16).float()
    return features, sparse, labels


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    return preds.eq(labels).double().sum() / len(labels)


def main(steps=20):
    torch.manual_seed(42)
    features, adj, labels = communities(60, 4)
    idx_train, idx_val = torch.LongTensor(range(30)), torch.LongTensor(range(30, 60))
    model = GCN(16, 16, 4, 0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    losses = []
    for _ in range(steps):
        model.train()
        optimizer.zero_grad()
        output = model(features, adj)
        loss_train = F.nll_loss(output[idx_train], labels[idx_train])
        loss_train.backward()
        optimizer.step()
        losses.append(loss_train.item())
    model.eval()
    output = model(features, adj)
    return losses + [F.nll_loss(output[idx_val], labels[idx_val]).item(), accuracy(output, labels).item()]


if __name__ == "__main__":
    print(main())
