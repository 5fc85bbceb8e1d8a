"""Small files in the forms that services issue, of values that a test chooses."""

import gzip

import h5py
import numpy as np

PROJECTION = "+proj=stere +lat_0=90 +lon_0=25 +lat_ts=60 +a=6371288 +units=m"


def write_odim(path, values, minutes=0, quantity="RATE", accumulated=None, **changes):
    """ODIM HDF5 of 2 km pixels: NaN is nodata, −inf undetect, others 0.5 · level − 32 or as such.

    It ends so many `minutes` after 2020-06-01 00:00 UTC, and begins `accumulated` minutes before;
    `object`, `zr` and `west`, in metres, may be others than usual.
    """
    import pyproj

    start = np.datetime64("2020-06-01") + np.timedelta64(minutes - (accumulated or 0), "m")
    ends = [start, np.datetime64("2020-06-01") + np.timedelta64(minutes, "m")]
    dates = [str(end)[:10].replace("-", "") for end in ends]
    times = [str(end.astype("datetime64[s]"))[11:].replace(":", "") for end in ends]
    rows, columns = values.shape
    inverse = pyproj.Proj(PROJECTION)
    west = changes.get("west", 0)
    east, north = west + 2000 * columns, 2000 * rows
    corners = {"LL": (west, 0), "UL": (west, north), "LR": (east, 0), "UR": (east, north)}
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("ODIM_H5/V2_3")
        what = file.create_group("what").attrs
        what["object"] = np.bytes_(changes.get("object", "COMP"))
        what["source"] = np.bytes_("ORG:247")
        what["date"], what["time"] = np.bytes_(dates[1]), np.bytes_(times[1])
        where = file.create_group("where").attrs
        where["projdef"] = np.bytes_(PROJECTION)
        where["xsize"], where["ysize"], where["xscale"], where["yscale"] = columns, rows, 2e3, 2e3
        for name, (x, y) in corners.items():
            where[f"{name}_lon"], where[f"{name}_lat"] = inverse(x, y, inverse=True)
        group = file.create_group("dataset1")
        for name, index in (("start", 0), ("end", 1)):
            group.require_group("what").attrs[f"{name}date"] = np.bytes_(dates[index])
            group["what"].attrs[f"{name}time"] = np.bytes_(times[index])
        data = group.create_group("data1")
        gain, offset = (0.5, -32.0) if quantity == "DBZH" else (0.25, 0.0)
        levels = np.where(np.isnan(values), 255, np.where(np.isinf(values), 0, 0))
        known = np.isfinite(values)
        levels[known] = np.rint((values[known] - offset) / gain)
        data.create_dataset("data", data=levels.astype(np.uint8))
        said = data.create_group("what").attrs
        said["quantity"] = np.bytes_(quantity)
        said["gain"], said["offset"], said["nodata"], said["undetect"] = gain, offset, 255.0, 0.0
        if "zr" in changes:
            how = data.create_group("how").attrs
            how["zr_a"], how["zr_b"] = changes["zr"]


def write_knmi(path, amounts, minutes=5, formula="GEO=0.01*PV+0.0", missing=65535):
    """KNMI HDF5 of 1 km pixels: mm in the 5 minutes before, NaN missing."""
    ends = [np.datetime64("2020-06-01") + np.timedelta64(minutes - back, "m") for back in (5, 0)]
    stamps = [end.astype(object).strftime("%d-JUN-%Y;%H:%M:%S.000") for end in ends]
    levels = np.where(np.isnan(amounts), 65535, np.rint(np.nan_to_num(amounts) * 100))
    with h5py.File(path, "w") as file:
        overview = file.create_group("overview").attrs
        overview["product_datetime_start"] = np.array([stamps[0]], "S25")
        overview["product_datetime_end"] = np.array([stamps[1]], "S25")
        image = file.create_group("image1")
        image.attrs["image_geo_parameter"] = np.bytes_("ACCUMULATED_PRECIPITATION_[MM]")
        image.create_dataset("image_data", data=levels.astype(np.uint16))
        calibration = image.create_group("calibration").attrs
        calibration["calibration_formulas"] = np.bytes_(formula)
        calibration["calibration_missing_data"] = np.array([missing], np.int32)
        geographic = file.create_group("geographic")
        for name, value in (
            ("geo_column_offset", 0.0), ("geo_row_offset", 3650.0), ("geo_pixel_size_x", 1.0),
            ("geo_pixel_size_y", -1.0), ("geo_number_columns", amounts.shape[1]),
            ("geo_number_rows", amounts.shape[0]),
        ):  # fmt: skip
            geographic.attrs[name] = np.array([value], np.float32)
        geographic.attrs["geo_dim_pixel"] = np.bytes_("KM,KM")
        geographic.create_group("map_projection").attrs["projection_proj4_params"] = np.bytes_(
            "+proj=stere +lat_0=90 +lon_0=0.0 +lat_ts=60.0 +a=6378.137 +b=6356.752 +x_0=0 +y_0=0"
        )


def write_pgm(path, reflectivity_dbz, minutes=0, zipped=True, **changes):
    """FMI's PGM with its corners: dBZ = (level − 64) / 2, NaN is 255."""
    time = (np.datetime64("2020-06-01") + np.timedelta64(minutes, "m")).astype(object)
    said = {
        "obstime": f"{time:%Y%m%d%H%M}", "producttype": "CAPPI", "param": "CorrectedReflectivity",
        "metersperpixel_x": "999.674053", "metersperpixel_y": "999.62859",
        "projection": "radar {", "type": "stereographic", "centrallongitude": "25",
        "centrallatitude": "90", "truelatitude": "60", "bottomleft": "18.600000 57.930000",
        "topright": "34.903000 69.005000", "}": "", **changes,
    }  # fmt: skip
    comments = "".join(f"# {name} {value}\n".replace(" \n", "\n") for name, value in said.items())
    levels = np.where(np.isnan(reflectivity_dbz), 255, np.nan_to_num(reflectivity_dbz) * 2 + 64)
    rows, columns = levels.shape
    content = f"P5\n{comments}{columns} {rows}\n255\n".encode() + levels.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)


TAGS = {
    "Observation time": "202006010000", "Gain": "0.500000", "Offset": "-32.000000",
    "Nodata": "255", "Undetect": "0",
}  # fmt: skip


def write_tiff(path, reflectivity_dbz, unit="dBZ", **changes):
    """GeoTIFF of 250 m pixels in EPSG:3067, as FMI writes it."""
    import rasterio

    levels = np.where(np.isnan(reflectivity_dbz), 255, np.nan_to_num(reflectivity_dbz) * 2 + 64)
    tags = {**TAGS, **changes}
    items = "".join(f'<Item name="{k}">{v}</Item>' for k, v in tags.items() if v is not None)
    items += f'<Item name="Quantity" unit="{unit}">Corrected reflectivity</Item>'
    with rasterio.open(
        path, "w", driver="GTiff", height=levels.shape[0], width=levels.shape[1], count=1,
        dtype="uint8", crs="EPSG:3067",
        transform=rasterio.Affine(250, 0, -100_000, 0, -250, 8_000_000),
    ) as file:  # fmt: skip
        file.write(levels.astype(np.uint8), 1)
        file.update_tags(GDAL_METADATA=f"<GDALMetadata>{items}</GDALMetadata>")
