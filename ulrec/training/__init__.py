"""Training, the only importer of Lightning."""

from ulrec.features.torchvision_schemas import declare_schemas

# Before a module here imports Lightning, whose torchmetrics imports torchvision if it is there.
declare_schemas()
