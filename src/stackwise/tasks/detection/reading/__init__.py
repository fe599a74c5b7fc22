"""Read annotated pictures: COCO, Pascal VOC, YOLO and `datasets`."""
