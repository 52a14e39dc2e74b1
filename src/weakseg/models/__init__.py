"""Networks: backbones and what weakseg puts on them."""
