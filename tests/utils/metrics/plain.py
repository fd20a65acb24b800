"""The published protocol as the specification words it: loops, skimage, one threshold at a time."""

import cv2
import numpy as np
from skimage.measure import label, regionprops

THRESHOLDS = [k / 200 for k in range(201)]


def sized(logits, levels):
    """A prediction (bilinear) and a mask (nearest) at 256 x 256."""
    logits = cv2.resize(logits.astype(np.float32), (256, 256), interpolation=cv2.INTER_LINEAR)
    mask = (levels == levels.max()).astype(np.uint8)
    return logits, cv2.resize(mask, (256, 256), interpolation=cv2.INTER_NEAREST) > 0


def relative(logits):
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return probability / probability.max()


def segmentation(logits, true):
    """tp, fp, fn and the image's IoU."""
    predicted = relative(logits) > 0.5
    tp = int((predicted & true).sum())
    fp, fn = int(predicted.sum()) - tp, int(true.sum()) - tp
    return tp, fp, fn, tp / (tp + fp + fn) if true.any() else 0.0


def detection(predicted, true):
    """hits, false pixels, targets: first match in raster order, false areas by their value."""
    targets = regionprops(label(true, connectivity=2))
    found = regionprops(label(predicted, connectivity=2))
    areas = [region.area for region in found]
    matched = []
    for target in targets:
        for region in found:
            if np.linalg.norm(np.subtract(region.centroid, target.centroid)) < 2:
                matched.append(region.area)
                found.remove(region)
                break
    return len(matched), int(sum(a for a in areas if a not in matched)), len(targets)


def roc(logits, true):
    """false pixels and touched targets at each threshold; background pixels; targets."""
    scores, labels = relative(logits), label(true, connectivity=2)
    false, touched = [], []
    for threshold in THRESHOLDS:
        predicted = scores >= threshold
        false.append(int((predicted & ~true).sum()))
        touched.append(sum((predicted & (labels == i)).any() for i in range(1, labels.max() + 1)))
    return np.array(false), np.array(touched), int((~true).sum()), int(labels.max())


def evaluate(logits, true):
    """All of it for one image, the matching at 11 thresholds."""
    probability = 1 / (1 + np.exp(-logits))
    matching = [detection(probability > k / 10, true) for k in range(11)]
    return segmentation(logits, true), matching, roc(logits, true)
