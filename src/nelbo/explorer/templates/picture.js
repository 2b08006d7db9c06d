// Pictures on canvases.

// Draws a picture that the server sent, one pixel of it on one of the canvas.
function draw(canvas, picture) {
  const { width, height, channels } = picture;
  const bytes = atob(picture.pixels), image = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let colour = 0; colour < 3; colour++) {
      image.data[4 * pixel + colour] = bytes.charCodeAt(channels === 1 ? pixel : channels * pixel + colour);
    }
    image.data[4 * pixel + 3] = 255;
  }
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// The value of a colour of the style, such as "ink".
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// A colour for a class: ten that differ, and hues for more.
const FEW = ["#3182c8", "#e0720f", "#35a035", "#d94343", "#9b6bcb", "#9a6154", "#dd6fbb", "#7f8a00", "#12a5b8", "#c79a12"];

function colourOf(label, count) {
  return count <= FEW.length ? FEW[label % FEW.length] : `hsl(${Math.round(360 * label / count)} 65% 50%)`;
}

// A number as text, with a minus sign.
function number(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}
